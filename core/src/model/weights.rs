//! The weights of a decoder by name: frozen tensors, and variables that training changes in place.

use std::collections::BTreeMap;

use candle_core::{Tensor, Var};

use crate::error::{Error, Result};

/// Named weights, each frozen or trainable.
#[derive(Debug, Clone, Default)]
pub struct Weights {
    tensors: BTreeMap<String, Tensor>,
    variables: BTreeMap<String, Var>,
}

impl Weights {
    /// Adds a weight.
    ///
    /// # Errors
    /// What the device says.
    pub fn insert(&mut self, name: &str, tensor: Tensor, trainable: bool) -> Result<()> {
        match trainable {
            true => {
                let variable = Var::from_tensor(&tensor)?;
                self.tensors.insert(name.to_owned(), variable.as_tensor().clone());
                self.variables.insert(name.to_owned(), variable);
            }
            false => {
                self.tensors.insert(name.to_owned(), tensor.detach());
            }
        }
        Ok(())
    }

    /// A weight that must be there.
    ///
    /// # Errors
    /// Names it when it is not.
    pub fn get(&self, name: &str) -> Result<Tensor> {
        self.tensors.get(name).cloned().ok_or_else(|| Error::unusable(format!("weight {name} is missing")))
    }

    /// A weight that may be there.
    pub fn find(&self, name: &str) -> Option<Tensor> {
        self.tensors.get(name).cloned()
    }

    /// Whether training changes it.
    pub fn is_trainable(&self, name: &str) -> bool {
        self.variables.contains_key(name)
    }

    /// What training changes, by name, in the order of names.
    pub fn variables(&self) -> Vec<(String, Var)> {
        self.variables.iter().map(|(name, variable)| (name.clone(), variable.clone())).collect()
    }

    /// All weights, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Tensor)> {
        self.tensors.iter()
    }
}
