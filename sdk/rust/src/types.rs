//! `wit/policy.wit`: the types that all kinds of policy share, generated once.

#[allow(missing_docs, reason = "the documentation is that of the WIT file")]
pub(crate) mod bindings {
    wit_bindgen::generate!({
        path: ["../../wit/policy.wit"],
        inline: "package midplane:sdk; world types { import midplane:policy/types@0.1.0; }",
        runtime_path: "::midplane_sdk::wit_bindgen::rt",
        additional_derives: [PartialEq, Eq, serde::Serialize, serde::Deserialize],
        additional_member_attributes: {
            "midplane:policy/types@0.1.0/message.bytes": [#[serde(with = "serde_bytes")]],
            "midplane:policy/types@0.1.0/state.bytes": [#[serde(with = "serde_bytes")]],
        },
        generate_unused_types: true,
        generate_all,
    });
}

pub use bindings::midplane::policy::types::*;
