//! What was counted, gathered for those who ask: every version that was asked for since the host started.

use modelhost_core::{ModelName, VersionNumber};

use crate::error::Error;
use crate::host::ModelHost;
use crate::live::{LiveModel, VersionSelector};
use crate::servable::MemoryUsage;
use crate::totals::{MemoryOfKind, VersionStatistics};

impl ModelHost {
    /// The statistics of all versions of all models that were asked for since the host started, by name and number.
    pub fn all_statistics(&self) -> Vec<VersionStatistics> {
        let mut statistics: Vec<_> = self.live.all().iter().flat_map(|live| self.of_model(live)).collect();
        statistics.sort_by(|one, other| one.name.cmp(&other.name));
        statistics
    }

    /// The statistics of one model: of all its versions that were asked for since the host started, or of the one that is
    /// named, asked for or not.
    ///
    /// # Errors
    /// Unknown model, version or alias.
    pub fn statistics(
        &self,
        name: &ModelName,
        selector: &VersionSelector,
    ) -> Result<Vec<VersionStatistics>, Error> {
        let live = self.live_model(name)?;
        let state = live.state();
        let number = match selector {
            VersionSelector::Deployed => return Ok(self.of_model(&live)),
            VersionSelector::Number(number) => *number,
            VersionSelector::Alias(alias) => state.alias(name, alias)?,
        };
        let number = state.version(name, number)?.number;
        Ok(vec![self.of_version(&live, number)])
    }

    fn of_model(&self, live: &LiveModel) -> Vec<VersionStatistics> {
        let record = live.state().record.clone();
        let versions = record.iter().flat_map(|record| &record.versions).map(|version| version.number);
        let loaded = versions.filter(|number| self.loader.statistics.is_counted(&live.name, *number));
        loaded.map(|number| self.of_version(live, number)).collect()
    }

    fn of_version(&self, live: &LiveModel, number: VersionNumber) -> VersionStatistics {
        let mut statistics = self.loader.statistics.report(&live.name, number);
        let servable = live.servables.lock().get(&number).cloned();
        let memory = servable.map(|servable| servable.memory_usage()).filter(|memory| memory.loaded);
        statistics.memory_usage = memory.iter().map(of_kind).collect();
        statistics
    }
}

fn of_kind(memory: &MemoryUsage) -> MemoryOfKind {
    let at_rest = memory.code_bytes + memory.graph_bytes + memory.shared_graph_bytes;
    MemoryOfKind {
        kind: "CPU".to_owned(),
        id: 0,
        byte_size: at_rest + memory.in_use_bytes,
        at_rest_byte_size: at_rest,
        in_use_byte_size: memory.in_use_bytes,
    }
}
