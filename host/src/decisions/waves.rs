//! In which waves a manifest goes to the nodes of a mesh: a few first, the rest when those are well.

use std::str::FromStr;

use crate::words::{Code, Fault, NodeId};

/// The waves, if nothing else is said: one node sees what no check finds, a tenth what one node does not see.
pub const USUAL: &str = "1,10%,100%";
/// Up to so many nodes there is one wave: whoever has a few looks at them himself.
pub const FEW: usize = 3;
/// Most waves. Nobody waits for more.
const WAVES_MOST: usize = 16;

/// How far each wave goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waves(Vec<Reach>);

/// How many nodes have it when a wave is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Nodes(usize),
    Percent(usize),
}

impl FromStr for Waves {
    type Err = Fault;

    /// Reads `1,10%,100%`: numbers of nodes or parts of all of them, the last one all.
    fn from_str(text: &str) -> Result<Self, Fault> {
        let wrong = |what: String| {
            Fault::new(Code::Usage, what).fix(format!("--waves {USUAL}, or --waves 100% for all at once"))
        };
        let reaches: Vec<Reach> = text
            .split(',')
            .map(|word| {
                let word = word.trim();
                let percent = word.strip_suffix('%');
                match percent.unwrap_or(word).parse() {
                    Ok(percents @ 1..=100) if percent.is_some() => Ok(Reach::Percent(percents)),
                    Ok(nodes @ 1..) if percent.is_none() => Ok(Reach::Nodes(nodes)),
                    _ => Err(wrong(format!("wave {word:?} is neither a number of nodes nor a part of them"))),
                }
            })
            .collect::<Result<_, _>>()?;
        if reaches.len() > WAVES_MOST {
            return Err(wrong(format!("{} waves; at most {WAVES_MOST} are made", reaches.len())));
        }
        if reaches.last() != Some(&Reach::Percent(100)) {
            return Err(wrong(format!("waves {text:?} do not end with all nodes")));
        }
        let shrinks = |pair: &[Reach]| match pair {
            [Reach::Nodes(a), Reach::Nodes(b)] | [Reach::Percent(a), Reach::Percent(b)] => b <= a,
            _ => false,
        };
        if reaches.windows(2).any(shrinks) {
            return Err(wrong(format!("waves {text:?} do not grow")));
        }
        Ok(Self(reaches))
    }
}

impl Waves {
    /// How many nodes each wave adds. Parts are rounded up; a wave that would add nobody is left out.
    pub fn sizes(&self, nodes: usize) -> Vec<usize> {
        let mut sizes = Vec::new();
        let mut have = 0;
        for reach in &self.0 {
            let reach = match reach {
                Reach::Nodes(reach) => (*reach).min(nodes),
                Reach::Percent(percents) => nodes.saturating_mul(*percents).div_ceil(100),
            };
            if reach > have {
                sizes.push(reach - have);
                have = reach;
            }
        }
        sizes
    }
}

/// The nodes in the order in which they come: the one that the manifest was given to, then by their ids.
pub fn order(first: &NodeId, mut nodes: Vec<NodeId>) -> Vec<NodeId> {
    nodes.sort_unstable_by_key(|node| (node != first, *node));
    nodes.dedup();
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waves_of_all_sizes() {
        for (waves, nodes, expect) in [
            (USUAL, 0, vec![]),
            (USUAL, 1, vec![1]),
            (USUAL, 4, vec![1, 3]),
            (USUAL, 10, vec![1, 9]),
            (USUAL, 11, vec![1, 1, 9]),
            (USUAL, 1_000, vec![1, 99, 900]),
            ("100%", 7, vec![7]),
            ("1,5,50%,100%", 20, vec![1, 4, 5, 10]),
            ("1,5,50%,100%", 6, vec![1, 4, 1]),
            ("9,100%", 5, vec![5]),
            (" 1 , 1% , 100% ", 50, vec![1, 49]),
        ] {
            let sizes = waves.parse::<Waves>().unwrap().sizes(nodes);
            assert_eq!(sizes, expect, "{waves} of {nodes}");
            assert_eq!(sizes.iter().sum::<usize>(), nodes, "{waves} of {nodes}");
        }
    }

    #[test]
    fn what_is_no_plan_is_refused() {
        for wrong in [
            "",
            "1",
            "50%",
            "1,",
            "0,100%",
            "0%,100%",
            "101%",
            "-1,100%",
            "a,100%",
            "2,1,100%",
            "1,1,100%",
            "50%,10%,100%",
            "100%,100%",
            "1;100%",
        ] {
            let fault = wrong.parse::<Waves>().unwrap_err();
            assert_eq!(fault.code, Code::Usage, "{wrong}");
        }
        let many: Vec<String> = (1..=16).map(|number| number.to_string()).collect();
        assert!(format!("{},100%", many.join(",")).parse::<Waves>().is_err());
        assert!(format!("{},100%", many[..15].join(",")).parse::<Waves>().is_ok());
    }

    #[test]
    fn the_node_that_was_asked_comes_first_and_each_node_once() {
        let id = |byte: u8| NodeId::from([byte; 32]);
        let nodes = vec![id(4), id(1), id(3), id(1), id(2)];
        assert_eq!(order(&id(3), nodes.clone()), [id(3), id(1), id(2), id(4)]);
        assert_eq!(order(&id(9), nodes), [id(1), id(2), id(3), id(4)]);
    }
}
