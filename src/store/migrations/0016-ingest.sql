-- HTTP sources.

-- Ids of events that were stored, so that one that comes again is stored once, also when its row is gone by then. `id` is
-- the first half of the sha256 of the stream's name and the event's id: 16 bytes each, however long those are.
create table sluice.ingest_ids (
  id uuid primary key,
  expires_at timestamptz not null
);
-- Rows lie about in the order of their time, so a range of it is found without an entry per row.
create index ingest_ids_age on sluice.ingest_ids using brin (expires_at) with (autosummarize = on);

-- A batch that tells how many records it rejected for which reason has no rows about single records: what strangers send
-- must not fill the ledger.
alter table sluice.ledger_batches add column reasons jsonb;
