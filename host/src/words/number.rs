//! The number of a failure: what a stream or connection is reset with, where no text can be sent.
//!
//! QUIC resets carry one integer. It is the number of the fault's code, passed on unchanged by every node that
//! forwards, so that both ends of a call see the same reason.

use super::fault::{Code, Fault};

/// Number of each code. Part of the wire protocol: never reuse or change a number. 0 is what a stream is stopped with
/// when its reader is simply dropped, so it says "the other side gave up".
const NUMBERS: &[(Code, u32)] = &[
    (Code::Cancelled, 0),
    (Code::Internal, 1),
    (Code::Deadline, 2),
    (Code::LinkLost, 3),
    (Code::Unreachable, 4),
    (Code::Busy, 5),
    (Code::Protocol, 6),
    (Code::TooLarge, 7),
    (Code::TooManyHops, 8),
    (Code::NoRoute, 9),
    (Code::NotAllowed, 10),
    (Code::NotAdmitted, 11),
    (Code::WrongMesh, 12),
    (Code::DuplicateIdentity, 13),
    (Code::UnknownKey, 14),
    (Code::BadSignature, 15),
    (Code::Expired, 16),
    (Code::UnknownFunction, 17),
    (Code::BlobMissing, 18),
    (Code::NotFound, 19),
    (Code::BadArgument, 20),
    (Code::NotCallable, 21),
    (Code::Usage, 22),
    (Code::BadManifest, 23),
    (Code::MissingGrant, 24),
    (Code::MissingImport, 25),
    (Code::WrongWorld, 26),
    (Code::BadObject, 27),
    (Code::StaleVersion, 28),
    (Code::DigestMismatch, 29),
    (Code::WrongMode, 30),
    (Code::TooBigToCompile, 31),
    (Code::BadComponent, 32),
    (Code::InitFailed, 33),
    (Code::NotRunning, 34),
    (Code::Trap, 35),
    (Code::MemoryLimit, 36),
    (Code::StackOverflow, 37),
    (Code::HostCallLimit, 38),
    (Code::OutOfFuel, 39),
    (Code::Application, 40),
    (Code::Locked, 41),
    (Code::PortInUse, 42),
    (Code::StorageFull, 43),
    (Code::Io, 44),
    (Code::PartlyDone, 45),
    (Code::BuildFailed, 46),
    (Code::TooDeep, 47),
    (Code::BindingFailed, 48),
    (Code::NeedsConsent, 49),
    (Code::Replaced, 50),
    (Code::NotConfirmed, 51),
];

/// The number of a code.
pub fn number_of(code: Code) -> u32 {
    let known = NUMBERS.iter().find(|(known, _)| *known == code);
    known.or(NUMBERS.get(1)).map_or(1, |(_, number)| *number)
}

/// The code of a number; one from a later version is read as `internal`.
pub fn code_of(number: u64) -> Code {
    let known = NUMBERS.iter().find(|(_, known)| u64::from(*known) == number);
    known.map_or(Code::Internal, |(code, _)| *code)
}

/// What a reset with this number means to whoever was using the stream or connection.
pub fn fault_of(number: u64, what: &str) -> Fault {
    let code = code_of(number);
    match code {
        Code::Internal => Fault::new(code, format!("{what} by the other side with number {number}")),
        _ => Fault::new(code, format!("{what} by the other side: {code}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_one_number() {
        for code in Code::ALL {
            assert_eq!(code_of(number_of(*code).into()), *code, "{code} needs a line in NUMBERS");
        }
        let mut numbers: Vec<_> = NUMBERS.iter().map(|(_, number)| number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), NUMBERS.len());
        assert_eq!(code_of(u64::MAX), Code::Internal);
        assert_eq!(number_of(Code::Cancelled), 0);
    }
}
