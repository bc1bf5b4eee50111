//! What a policy can ask of its setup.

use serde::de::DeserializeOwned;

use crate::{Setup, State, codec};

impl Setup {
    /// The plugin's `config` table of the manifest as a type of the policy's own. Give the type
    /// `#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]`, so that an empty table is a valid one
    /// and a misspelt key is refused by name.
    ///
    /// The error is fit to be returned from `init`.
    pub fn config<T: DeserializeOwned>(&self) -> Result<T, String> {
        serde_json::from_str(&self.config).map_err(|error| format!("config: {error}"))
    }

    /// State of an earlier instance, when it is of this version and can be read. Anything else is as good as
    /// no state: a policy must be able to start from nothing.
    pub fn handed_over<T: DeserializeOwned>(&self, version: &str) -> Option<T> {
        let state = self.handover.as_ref().filter(|state| state.version == version)?;
        codec::decode(&state.bytes).ok()
    }
}

impl State {
    /// State of this version, in the form that [`Setup::handed_over`] reads.
    pub fn of<T: serde::Serialize>(version: &str, value: &T) -> Self {
        Self { version: version.to_owned(), bytes: codec::encode(value) }
    }

    /// No state: the next instance starts from nothing.
    pub fn none() -> Self {
        Self { version: String::new(), bytes: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize, Debug, Default, PartialEq)]
    #[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
    struct Config {
        max_peers: u32,
    }

    fn setup(config: &str, handover: Option<State>) -> Setup {
        Setup {
            node: "n".into(),
            label: "l".into(),
            tags: Vec::new(),
            slot: "s".into(),
            config: config.into(),
            seed: 1,
            now: 0,
            clock_trusted: true,
            handover,
        }
    }

    #[test]
    fn config_is_typed_and_errors_name_the_key() {
        assert_eq!(setup("{}", None).config(), Ok(Config::default()));
        assert_eq!(setup(r#"{"max-peers": 3}"#, None).config(), Ok(Config { max_peers: 3 }));
        for (config, names) in
            [(r#"{"max-pers": 3}"#, "max-pers"), (r#"{"max-peers": "x"}"#, "expected u32"), ("", "EOF")]
        {
            let error = setup(config, None).config::<Config>().unwrap_err();
            assert!(error.starts_with("config: ") && error.contains(names), "{error}");
        }
    }

    #[test]
    fn state_of_another_version_or_garbage_is_no_state() {
        let state = State::of("1", &("a".to_owned(), 7_u64));
        assert_eq!(setup("{}", Some(state.clone())).handed_over("1"), Some(("a".to_owned(), 7_u64)));
        assert_eq!(setup("{}", Some(state)).handed_over::<(String, u64)>("2"), None);
        let garbage = State { version: "1".into(), bytes: vec![255; 9] };
        assert_eq!(setup("{}", Some(garbage)).handed_over::<(String, u64)>("1"), None);
        assert_eq!(setup("{}", Some(State::none())).handed_over::<()>("1"), None);
        assert_eq!(setup("{}", None).handed_over::<()>("1"), None);
    }
}
