//! The file-system and clock seam of pitr, with a simulated disk that loses power.
