//! Who is decided on, by what: the ledger, the policy, and what others hold against a cut.

use std::collections::{BTreeMap, HashSet};

use ledger::Fold;
use ledger::credit::{CreditPolicy, Decision, Holds, decide};
use model::view::AccountView;
use model::{AccountId, Calendar, Instant, MeterId};
use registry::{AccountInfo, CutHolds, HoldKind, Registry};

use crate::{Pipeline, PipelineError};

/// An account that was decided on.
#[derive(Clone, Debug)]
pub struct Decided {
    /// The account, at the position that it was decided at.
    pub account: AccountView,
    /// As it is registered.
    pub info: AccountInfo,
    /// Its meter.
    pub meter: Option<MeterId>,
    /// Whether it may be cut, and every reason why not.
    pub decision: Decision,
}

/// What was decided for a moment.
#[derive(Clone, Debug)]
pub struct Due {
    /// The policy in force then.
    pub policy: Option<CreditPolicy>,
    /// The accounts, by rising id.
    pub accounts: Vec<Decided>,
    /// What holds cuts from outside of the ledger.
    pub holds: CutHolds,
}

/// Whom a decision is wanted for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    /// One account, whatever its balance.
    Account(AccountId),
    /// Everybody below zero.
    BelowZero,
    /// Those alone whom nothing in the ledger holds, without these.
    Due(HashSet<AccountId>),
}

/// An account and its meter, and whether that has to prove what it says.
struct Candidate {
    account: AccountView,
    meter: Option<MeterId>,
    authenticated: bool,
}

impl Candidate {
    fn of(fold: &Fold, account: AccountView) -> Candidate {
        let meter = fold.meter_of(account.account);
        let authenticated = meter.as_ref().is_some_and(|meter| meter.authenticated);
        Candidate { account, meter: meter.map(|meter| meter.meter), authenticated }
    }
}

/// Who may be cut at `at`, as far as is known now.
///
/// # Errors
/// When the pipeline has stopped or the registry cannot be read.
pub async fn due(
    pipeline: &Pipeline,
    registry: &Registry,
    calendar: &Calendar,
    at: Instant,
    whom: Whom,
) -> Result<Due, PipelineError> {
    let now = pipeline.clock().now();
    let day = calendar.day_of(at);
    let (zone, is_one) = (calendar.clone(), matches!(whom, Whom::Account(_)));
    let look = move |fold: &Fold| {
        let policy = fold.credit_policy_on(day).cloned();
        let is_held = |candidate: &Candidate| {
            let nothing = Holds { enabled: true, authenticated: candidate.authenticated, ..Holds::default() };
            !decide(policy.as_ref(), &zone, &candidate.account, &nothing, at, now).is_due()
        };
        let candidates: Vec<Candidate> = match whom {
            Whom::Account(account) => {
                fold.account(account).into_iter().map(|view| Candidate::of(fold, view)).collect()
            }
            Whom::BelowZero => fold.accounts_below_zero().map(|view| Candidate::of(fold, view)).collect(),
            Whom::Due(without) => {
                let below = fold.accounts_below_zero().filter(|view| !without.contains(&view.account));
                below.map(|view| Candidate::of(fold, view)).filter(|one| !is_held(one)).collect()
            }
        };
        (policy, candidates)
    };
    // Before the balances: money that is booked in between is in one of the two.
    let holds = registry.cut_holds().await?;
    let (policy, candidates) = if is_one { pipeline.look(look).await? } else { pipeline.study(look).await? };
    let ids: Vec<AccountId> = candidates.iter().map(|candidate| candidate.account.account).collect();
    let mut infos = infos_of(registry, &ids).await?;
    let decided = |candidate: Candidate| {
        let Candidate { account, meter, authenticated } = candidate;
        let info = infos.remove(&account.account)?;
        let held = holds_of(&holds, &info, authenticated);
        let decision = decide(policy.as_ref(), calendar, &account, &held, at, now);
        Some(Decided { account, info, meter, decision })
    };
    let accounts = candidates.into_iter().filter_map(decided).collect();
    Ok(Due { policy, accounts, holds })
}

/// What the registry says of these accounts.
///
/// # Errors
/// When the registry cannot be read.
pub async fn infos_of(
    registry: &Registry,
    accounts: &[AccountId],
) -> Result<BTreeMap<AccountId, AccountInfo>, PipelineError> {
    let infos = registry.accounts_by_id(accounts).await?;
    Ok(infos.into_iter().map(|info| (info.account, info)).collect())
}

/// What holds a cut of this account from outside of the ledger.
fn holds_of(holds: &CutHolds, info: &AccountInfo, authenticated: bool) -> Holds {
    let has = |kind| holds.accounts.get(&info.account).is_some_and(|kinds| kinds.contains(&kind));
    Holds {
        enabled: holds.enabled.contains(info.place()),
        protected: has(HoldKind::Protected),
        disputed: has(HoldKind::Disputed),
        // A recharge is booked in the moment in which it is received; what comes in files may wait.
        payment_in_flight: holds.waiting.contains(info.number.as_str()),
        authenticated,
    }
}
