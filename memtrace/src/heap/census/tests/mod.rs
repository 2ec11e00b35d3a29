//! Censuses of memories made up for the purpose.
