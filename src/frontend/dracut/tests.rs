use super::*;
use crate::frontend::Module;
