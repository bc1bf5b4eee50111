//! Everything that is wrong with one thing, told at once: nobody should need five tries to learn of five mistakes.

use super::fault::{Code, Fault, Outcome};

/// Problems shown in one message. More would scroll the first ones, which cause the others, off the screen.
pub const SHOWN_MAX: usize = 40;

/// What has been found so far. Each problem is a sentence by itself: culprit first, no full stop.
#[derive(Debug, Default)]
pub struct Problems(Vec<String>);

impl Problems {
    /// Nothing found yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one.
    pub fn add(&mut self, what: impl Into<String>) {
        self.0.push(what.into());
    }

    /// Adds one if `wrong`.
    pub fn add_if(&mut self, wrong: bool, what: impl FnOnce() -> String) {
        if wrong {
            self.0.push(what());
        }
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Success when nothing was found, otherwise one fault that says all of it; `about` names the whole, for
    /// example a file. Several problems stand on lines of their own.
    pub fn finish(self, code: Code, about: &str) -> Outcome<()> {
        match self.0.as_slice() {
            [] => Ok(()),
            [one] => Err(Fault::new(code, one)),
            many => {
                let mut what = format!("{about} has {} problems", many.len());
                for problem in many.iter().take(SHOWN_MAX) {
                    what.push_str("\n  ");
                    what.push_str(problem);
                }
                if many.len() > SHOWN_MAX {
                    what.push_str(&format!("\n  and {} more", many.len() - SHOWN_MAX));
                }
                Err(Fault::new(code, what))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finish(count: usize) -> Outcome<()> {
        let mut problems = Problems::new();
        for index in 0..count {
            problems.add(format!("p{index}"));
        }
        problems.finish(Code::BadManifest, "a.toml")
    }

    #[test]
    fn problems_are_told_together() {
        assert_eq!(finish(0), Ok(()));
        assert_eq!(finish(1).unwrap_err().what, "p0");
        assert_eq!(finish(2).unwrap_err().what, "a.toml has 2 problems\n  p0\n  p1");
        let many = finish(SHOWN_MAX + 5).unwrap_err().what;
        assert!(many.starts_with("a.toml has 45 problems\n  p0\n"), "{many}");
        assert!(many.ends_with("\n  p39\n  and 5 more"), "{many}");
    }
}
