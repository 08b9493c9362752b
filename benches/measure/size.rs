//! The binary as it is shipped: the profile strips it.

use super::Result;
use super::figure::Figure;

pub(crate) fn measure() -> Result<()> {
    #[expect(clippy::cast_precision_loss, reason = "a file is far smaller than 2^52 bytes")]
    let bytes = std::fs::metadata(env!("CARGO_BIN_EXE_serin"))?.len() as f64;
    let value = bytes / 1024.0 / 1024.0;
    Figure { what: "binary, stripped".to_owned(), value, unit: "MiB", budget: Some(30.0), bench: "size" }.print();
    Ok(())
}
