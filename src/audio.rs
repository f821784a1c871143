//! stub
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
/// stub
pub struct AudioSpec;
impl AudioSpec {
    pub fn codec(&self) -> &'static str {
        "aac"
    }
    pub fn bps(&self) -> Option<u64> {
        None
    }
}
