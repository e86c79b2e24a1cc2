//! Sections `account`, `day_energy`, `closed_month`, `ended_terms` and `terms`.

use model::{
    AccountId, AccountTerms, CivilDay, CivilMonth, ConnectionType, MeterId, OutboxId, Paise, Section,
};

use super::bytes::{Reader, Writer};
use super::{Known, section};
use crate::account::{Account, Books, Closed, EndedTerms, Month, PendingTerms};
use crate::energy::{Energy, Figure, Point};
use crate::rating::Charge;
use crate::tariffs::NameId;
use crate::thin::Thin;
use crate::{Fold, FoldError};

pub(super) const ACCOUNT: &str = "account";
pub(super) const ACCOUNT_SIZE: u32 = 144;
pub(super) const DAY_ENERGY: &str = "day_energy";
pub(super) const DAY_ENERGY_SIZE: u32 = 24;
pub(super) const CLOSED_MONTH: &str = "closed_month";
pub(super) const CLOSED_MONTH_SIZE: u32 = 120;
pub(super) const TERMS: &str = "terms";
pub(super) const TERMS_SIZE: u32 = 24;
pub(super) const ENDED_TERMS: &str = "ended_terms";
pub(super) const ENDED_TERMS_SIZE: u32 = 24;

const BASE_IS_REGISTER: u8 = 1;
const LATE: u8 = 1 << 1;
const LAST_DAY: u8 = 1 << 2;

const CLOSED: u8 = 1;
const RATED: u8 = 1 << 1;
const AFFECTED: u8 = 1 << 2;

pub(super) fn write(fold: &Fold) -> [Section; 5] {
    let mut accounts = Writer::default();
    let mut days = Writer::default();
    let mut months = Writer::default();
    let mut ended = Writer::default();
    let mut terms = Writer::default();
    for (id, account) in fold.accounts.iter() {
        write_account(&mut accounts, account);
        account.energy.points.iter().for_each(|point| write_point(&mut days, id, *point));
        account.months.iter().for_each(|month| write_month(&mut months, id, month));
        let of_months = account.months.iter().flat_map(|month| month.ended.iter());
        of_months.for_each(|terms| write_ended(&mut ended, id, *terms));
        account.pending.iter().for_each(|pending| write_terms(&mut terms, id, *pending));
    }
    [
        section(ACCOUNT, ACCOUNT_SIZE, accounts),
        section(DAY_ENERGY, DAY_ENERGY_SIZE, days),
        section(CLOSED_MONTH, CLOSED_MONTH_SIZE, months),
        section(ENDED_TERMS, ENDED_TERMS_SIZE, ended),
        section(TERMS, TERMS_SIZE, terms),
    ]
}

pub(super) fn read(fold: &mut Fold, known: &Known<'_>) -> Result<(), FoldError> {
    let mut r = known.reader(ACCOUNT)?;
    while !r.is_empty() {
        let account = read_account(&mut r)?;
        fold.accounts.insert(account.id.0, account);
    }
    read_each(fold, known, DAY_ENERGY, read_point, |account, point| account.energy.points.push(point))?;
    read_each(fold, known, CLOSED_MONTH, read_month, |account, month| account.months.push(month))?;
    read_ended(fold, known)?;
    read_each(fold, known, TERMS, read_terms, |account, terms| account.pending.push(terms))
}

/// Reads a section whose records begin with the account they belong to.
fn read_each<T>(
    fold: &mut Fold,
    known: &Known<'_>,
    name: &'static str,
    read: impl Fn(&mut Reader<'_>) -> Result<T, FoldError>,
    put: impl Fn(&mut Account, T),
) -> Result<(), FoldError> {
    let mut r = known.reader(name)?;
    while !r.is_empty() {
        let id = r.u32("account")?;
        let account = fold.accounts.get_mut(id).ok_or_else(|| r.malformed("account"))?;
        put(account, read(&mut r)?);
    }
    Ok(())
}

fn write_account(w: &mut Writer, account: &Account) {
    let books = account.books();
    let flag = |up: bool, bit: u8| if up { bit } else { 0 };
    let flags = flag(account.energy.base_is_register, BASE_IS_REGISTER)
        | flag(account.late, LATE)
        | flag(books.last_day.is_some(), LAST_DAY);
    let (last_wh, last_charge) = books.last_day.unwrap_or_default();
    w.u32(account.id.0);
    w.i32(account.from.0);
    w.i32(account.booked_until.0);
    w.u32(account.meter().map_or(0, |meter| meter.0));
    w.u32(account.sanctioned_w);
    w.i32(account.energy.base_day.0);
    w.u16(account.tariff.0);
    w.u8(account.connection as u8);
    w.u8(flags);
    w.u32(account.last_payment().map_or(0, |number| number + 1));
    w.i64(account.booked.0);
    w.i64(account.energy.base_wh);
    write_charge(w, &books.charge);
    w.i64(books.charged_wh);
    w.i64(account.open_demand_w());
    w.i64(last_wh);
    w.i64(last_charge.0);
}

fn read_account(r: &mut Reader<'_>) -> Result<Account, FoldError> {
    let id = AccountId(r.u32("id")?);
    let from = CivilDay(r.i32("from")?);
    let booked_until = CivilDay(r.i32("booked until")?);
    let meter = r.u32("meter")?;
    let sanctioned_w = r.u32("sanctioned load")?;
    let base_day = CivilDay(r.i32("base day")?);
    let tariff = NameId(r.u16("tariff")?);
    let connection = match r.u8("connection")? {
        1 => ConnectionType::Prepaid,
        2 => ConnectionType::Postpaid,
        _ => return Err(r.malformed("connection")),
    };
    let flags = r.u8("flags")?;
    let last_payment = r.u32("last payment")?;
    let booked = Paise(r.i64("booked")?);
    let base_wh = r.i64("base")?;
    let charge = read_charge(r)?;
    let charged_wh = r.i64("charged energy")?;
    let demand_w = r.i64("demand")?;
    let last_day = (r.i64("energy of the last day")?, Paise(r.i64("charge of the last day")?));
    let base_is_register = flags & BASE_IS_REGISTER != 0;
    let terms = AccountTerms {
        outbox: OutboxId(0),
        account: id,
        connection,
        tariff: String::new(),
        sanctioned_w,
        from,
        opening_register_wh: 0,
        opening_balance: Paise::ZERO,
    };
    let mut account = Account::new(&terms, tariff);
    account.set_meter((meter != 0).then_some(MeterId(meter)));
    account.booked_until = booked_until;
    account.booked = booked;
    let last_day = (flags & LAST_DAY != 0).then_some(last_day);
    account.set_books(Books { charge, charged_wh, last_day });
    account.set_open_demand_w(demand_w);
    account.set_last_payment(last_payment.checked_sub(1));
    account.energy = Energy { base_day, base_wh, base_is_register, points: Thin::default() };
    account.late = flags & LATE != 0;
    Ok(account)
}

fn write_charge(w: &mut Writer, charge: &Charge) {
    charge.heads.iter().for_each(|head| w.i64(head.0));
}

fn read_charge(r: &mut Reader<'_>) -> Result<Charge, FoldError> {
    let mut charge = Charge::default();
    for head in &mut charge.heads {
        *head = Paise(r.i64("charge")?);
    }
    Ok(charge)
}

fn write_point(w: &mut Writer, account: u32, point: Point) {
    let (kind, wh) = match point.figure {
        Figure::Intervals(wh) => (1, wh),
        Figure::Register(wh) => (2, wh),
    };
    w.u32(account);
    w.i32(point.day.0);
    w.i64(wh);
    w.u8(kind);
    w.zeros(7);
}

fn read_point(r: &mut Reader<'_>) -> Result<Point, FoldError> {
    let day = CivilDay(r.i32("day")?);
    let wh = r.i64("energy")?;
    let figure = match r.u8("kind")? {
        1 => Figure::Intervals(wh),
        2 => Figure::Register(wh),
        _ => return Err(r.malformed("kind")),
    };
    r.raw(7, "padding")?;
    Ok(Point { day, figure })
}

fn write_month(w: &mut Writer, account: u32, month: &Month) {
    w.u32(account);
    w.i32(month.month.0);
    w.i64(month.demand_w);
    let Some(closed) = &month.closed else {
        w.zeros(CLOSED_MONTH_SIZE as usize - 16);
        return;
    };
    let rated = if closed.is_rated { RATED } else { 0 };
    let affected = if closed.affected.is_some() { AFFECTED } else { 0 };
    w.u8(CLOSED | rated | affected);
    w.zeros(1);
    w.u16(closed.tariff.0);
    w.u32(closed.sanctioned_w);
    write_charge(w, &closed.charge);
    w.i64(closed.charged_wh);
    w.i64(closed.start_wh);
    w.i64(closed.end_wh);
    w.i32(closed.first_day.0);
    w.i32(closed.affected.unwrap_or_default().0);
}

fn read_month(r: &mut Reader<'_>) -> Result<Month, FoldError> {
    let month = CivilMonth(r.i32("month")?);
    let demand_w = r.i64("demand")?;
    let flags = r.u8("flags")?;
    r.raw(1, "padding")?;
    let tariff = NameId(r.u16("tariff")?);
    let sanctioned_w = r.u32("sanctioned load")?;
    let charge = read_charge(r)?;
    let charged_wh = r.i64("charged energy")?;
    let start_wh = r.i64("start")?;
    let end_wh = r.i64("end")?;
    let first_day = CivilDay(r.i32("first day")?);
    let affected = CivilDay(r.i32("affected day")?);
    let closed = Closed {
        charge,
        charged_wh,
        start_wh,
        end_wh,
        is_rated: flags & RATED != 0,
        tariff,
        sanctioned_w,
        first_day,
        affected: (flags & AFFECTED != 0).then_some(affected),
    };
    let closed = (flags & CLOSED != 0).then_some(closed);
    Ok(Month { month, demand_w, closed, ended: Thin::default() })
}

fn write_ended(w: &mut Writer, account: u32, terms: EndedTerms) {
    w.u32(account);
    w.i32(terms.until.0);
    w.u32(terms.sanctioned_w);
    w.u16(terms.tariff.0);
    w.zeros(2);
    w.i64(terms.demand_w);
}

/// Puts terms into their months, which were read before.
fn read_ended(fold: &mut Fold, known: &Known<'_>) -> Result<(), FoldError> {
    let mut r = known.reader(ENDED_TERMS)?;
    while !r.is_empty() {
        let account = r.u32("account")?;
        let until = CivilDay(r.i32("until")?);
        let sanctioned_w = r.u32("sanctioned load")?;
        let tariff = NameId(r.u16("tariff")?);
        r.raw(2, "padding")?;
        let demand_w = r.i64("demand")?;
        let account = fold.accounts.get_mut(account).ok_or_else(|| r.malformed("account"))?;
        let mut months = account.months.iter_mut();
        let month = months.find(|known| known.month == until.month()).ok_or_else(|| r.malformed("until"))?;
        month.ended.push(EndedTerms { until, sanctioned_w, tariff, demand_w });
    }
    Ok(())
}

fn write_terms(w: &mut Writer, account: u32, terms: PendingTerms) {
    w.u32(account);
    w.i32(terms.from.0);
    w.u32(terms.sanctioned_w);
    w.u16(terms.tariff.0);
    w.zeros(2);
    w.i64(terms.demand_w);
}

fn read_terms(r: &mut Reader<'_>) -> Result<PendingTerms, FoldError> {
    let from = CivilDay(r.i32("from")?);
    let sanctioned_w = r.u32("sanctioned load")?;
    let tariff = NameId(r.u16("tariff")?);
    r.raw(2, "padding")?;
    let demand_w = r.i64("demand")?;
    Ok(PendingTerms { from, sanctioned_w, tariff, demand_w })
}
