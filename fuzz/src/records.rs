//! The payload of one record of any kind.

use pitr_format::record::Record;

/// The first byte is the kind, the others are the payload. A decoded record must encode to the same
/// bytes, except for bytes that the format does not use.
pub fn run(data: &[u8]) {
    let Some((kind, payload)) = data.split_first() else { return };
    let Ok(record) = Record::decode(*kind, payload) else { return };
    assert_eq!(record.kind() as u8, *kind);
    let mut again = Vec::new();
    record.encode(&mut again);
    assert_eq!(again.len(), payload.len());
    assert_eq!(Record::decode(*kind, &again).as_ref(), Ok(&record));
}
