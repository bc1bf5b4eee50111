//! `math1`: sums and products. A result that does not fit is a trap and never a wrong number.

midplane_sdk::skill!(Math1);

struct Math1;

impl Guest for Math1 {
    fn add(x: i64, y: i64) -> i64 {
        x.checked_add(y).expect("the sum does not fit into 64 bits")
    }

    fn multiply(x: i64, y: i64) -> i64 {
        x.checked_mul(y).expect("the product does not fit into 64 bits")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_products() {
        for (x, y, sum, product) in
            [(2, 3, 5, 6), (-2, 3, 1, -6), (i64::MAX, 0, i64::MAX, 0), (i64::MIN, 1, i64::MIN + 1, i64::MIN)]
        {
            assert_eq!((Math1::add(x, y), Math1::multiply(x, y)), (sum, product));
        }
    }

    #[test]
    #[should_panic = "the sum does not fit"]
    fn a_sum_that_does_not_fit_traps() {
        Math1::add(i64::MAX, 1);
    }

    #[test]
    #[should_panic = "the product does not fit"]
    fn a_product_that_does_not_fit_traps() {
        Math1::multiply(i64::MIN, -1);
    }
}
