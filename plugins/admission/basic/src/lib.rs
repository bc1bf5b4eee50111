//! Admits every peer that shows a membership of this mesh, at the membership's trust; all others wait.

use midplane_sdk::admission::*;

struct Basic;

impl Policy for Basic {
    fn init(_: Setup) -> Result<(Self, Vec<Effect>), String> {
        Ok((Basic, Vec::new()))
    }

    fn admit(&self, _: Millis, request: &Request) -> Verdict {
        match &request.membership {
            Some(membership) => Verdict { trust: membership.trust, reason: "shows a membership".into() },
            None => Verdict { trust: Trust::Pending, reason: "shows no membership of this mesh".into() },
        }
    }
}

midplane_sdk::export_admission!(Basic);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trust_is_that_of_the_membership() {
        let membership = |trust| Membership { trust, tags: Vec::new(), names: Vec::new(), expires: 1 };
        for (shown, expect) in [
            (None, Trust::Pending),
            (Some(Trust::Basic), Trust::Basic),
            (Some(Trust::Trusted), Trust::Trusted),
            (Some(Trust::Full), Trust::Full),
        ] {
            let request = Request {
                peer: "peer".into(),
                address: "192.0.2.1:1".into(),
                dialled: false,
                membership: shown.map(membership),
            };
            assert_eq!(Basic.admit(0, &request).trust, expect);
        }
    }
}
