//! Stages that make and rank paths: samples, step labels, scores, pairs.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use sipf_plugin::Problem;

use super::{PIECE, Policy, Shared, Stages};
use crate::align::pairs;
use crate::model::{LoadOptions, RewardNet};
use crate::record::{self, Sample, ScoredPath, StepLabels};
use crate::run_dir::{Finished, Made, StageInputs, hash_rows};
use crate::work::Plan;
use crate::{AtPath, Error, Result, sample, simulate};
