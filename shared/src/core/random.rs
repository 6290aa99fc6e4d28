//! Unpredictable random bytes, for secrets and salts. Ids come from [`crate::core::ids`].

/// The operating system gave no random bytes, so no secret can be generated. 500.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gave no random bytes")]
pub struct NoEntropy;

/// `N` bytes from the cryptographic library's generator, which the operating system seeds.
pub fn bytes<const N: usize>() -> Result<[u8; N], NoEntropy> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| NoEntropy)?;
    Ok(bytes)
}
