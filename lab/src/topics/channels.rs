use super::scenario::Scenario;
pub(super) const SCENARIOS: &[Scenario] = &[];
