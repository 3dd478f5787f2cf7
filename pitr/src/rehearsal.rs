//! Rehearsals: restores into a sandbox, checked and thrown away.

use std::ffi::OsString;
use std::time::Duration;

use pitr_recovery::{History, Plan, Progress, Rto};
use pitr_verify::{
    Audit, AuditedSource, CheckedObjects, CommandProbe, Level, Moment, Probe, QueryProbe, Record, Rehearsal,
    RehearsalFinding, RehearsalOptions, Report, Verifications, VerifiedState,
};

use crate::validation::of_objects;
use crate::{Pitr, Result};

/// A rehearsal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RehearsalRequest {
    /// The sandbox.
    pub options: RehearsalOptions,
    /// Queries that must hold on the copy, in the language of its engine
    /// ([`Answer::holds`](pitr_verify::Answer::holds)).
    pub queries: Vec<String>,
    /// Shell commands that must succeed on the copy ([`CommandProbe`]).
    pub commands: Vec<OsString>,
    /// How long a restore may take. A longer one is noted, and costs the source's health.
    pub rto: Option<Rto>,
    /// Who rehearses, for the history: such as the name of this machine.
    pub by: String,
}

impl RehearsalRequest {
    /// A rehearsal without checks of the user's own.
    #[must_use]
    pub fn new(options: RehearsalOptions) -> Self {
        RehearsalRequest { options, queries: Vec::new(), commands: Vec::new(), rto: None, by: String::new() }
    }
}

impl Pitr {
    /// Restores the state of a plan into a sandbox, checks the copy, and removes it. The outcome
    /// goes into the repository's history of verifications, and the measured rates into its rates.
    /// If these can't be written, that is a warning.
    ///
    /// # Errors
    /// [`Error::Engine`](crate::Error::Engine) if queries are given and the engine answers none;
    /// those of [`rehearse`](pitr_verify::rehearse).
    pub fn rehearse(
        &self,
        history: &History,
        plan: &Plan,
        request: &RehearsalRequest,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Rehearsal> {
        let source = history.archive().source();
        let commands: Vec<CommandProbe> = request.commands.iter().map(CommandProbe::new).collect();
        let queries = match request.queries.is_empty() {
            true => Vec::new(),
            false => {
                let engine = self.engine_of(history, plan)?.need_queries()?;
                request.queries.iter().map(|query| QueryProbe::new(engine, query)).collect()
            }
        };
        let queries = queries.iter().map(|probe| probe as &dyn Probe);
        let probes: Vec<&dyn Probe> = queries.chain(commands.iter().map(|probe| probe as _)).collect();
        let rehearsal = self.with_restorer(history, plan, progress, |restorer| {
            pitr_verify::rehearse(restorer, source, plan, &request.options, &probes)
        })?;
        let level = if probes.is_empty() { Level::Restore } else { Level::Functional };
        let record = self.record_of(level, history, plan, &rehearsal, request);
        self.record(&record);
        Ok(rehearsal)
    }

    /// The verifications of the repository, oldest first.
    pub fn verifications(&self) -> Result<Verifications> {
        Ok(Verifications::load(self.objects())?)
    }

    /// A report for auditors: what can be restored, what was verified within the window, and what
    /// was found. `report` is a check of the objects that took place just now, if there was one.
    pub fn audit(&self, report: Option<&Report>, window: Duration) -> Result<Audit> {
        let pitr = self.view()?;
        let mut verifications = pitr.verifications()?;
        // A single check is not in the repository's history.
        let checked = report.map(|report| of_objects(self.clock().now(), Duration::ZERO, report, ""));
        verifications.records.extend(checked);
        let mut sources = Vec::new();
        for source in pitr.sources()? {
            let candidates = pitr.candidates(&source)?;
            let (coverage, health) = pitr.health_of(&source, &candidates, &verifications, window);
            let history = pitr.history(&source, None)?;
            let of_source = |record: &&Record| {
                record.restore_took.is_some()
                    && record.state.as_ref().is_some_and(|state| state.source == source)
            };
            sources.push(AuditedSource {
                snapshot_times: candidates.iter().map(|one| Moment(one.created)).collect(),
                restorable: history.restorable()?.iter().map(Into::into).collect(),
                rehearsals: verifications.records.iter().filter(of_source).map(Into::into).collect(),
                ..AuditedSource::new(source.to_string(), &coverage, &health)
            });
        }
        Ok(Audit {
            created: Moment(self.clock().now()),
            repository: self.objects().place().to_owned(),
            encrypted: self.objects().is_encrypted(),
            window_days: window.as_secs_f64() / 86_400.0,
            objects: report.map(CheckedObjects::from),
            sources,
        })
    }

    fn record_of(
        &self,
        level: Level,
        history: &History,
        plan: &Plan,
        rehearsal: &Rehearsal,
        request: &RehearsalRequest,
    ) -> Record {
        let text = |RehearsalFinding { check, what }: &RehearsalFinding| format!("{check}: {what}");
        let took = rehearsal.restore_time + rehearsal.check_time;
        Record {
            state: Some(VerifiedState {
                source: history.archive().source().clone(),
                timeline: plan.reached.timeline,
                lsn: plan.reached.lsn,
                tx: plan.reached.tx,
                time: plan.reached.time,
                snapshot: plan.snapshot,
            }),
            restore_took: rehearsal.stats.is_some().then_some(rehearsal.restore_time),
            rto: request.rto.map(Rto::get),
            bytes: rehearsal.bytes,
            count: rehearsal.findings.len() as u64,
            findings: rehearsal.findings.iter().map(text).collect(),
            ..Record::new(self.clock().now(), level, took, &request.by)
        }
    }
}
