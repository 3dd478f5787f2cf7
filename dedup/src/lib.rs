//! A content-addressed chunk store in packs.
