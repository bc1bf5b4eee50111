// A till in JavaScript.

export const till = {
  addUp(items) {
    if (items.length === 0) {
      throw "nothing to add up";
    }
    const dearest = items.reduce((most, item) => (item.price > most.price ? item : most));
    return { total: items.reduce((sum, item) => sum + item.price, 0), names: items.map((item) => item.name), dearest };
  },

  fail(text) {
    throw new Error(text);
  },
};
