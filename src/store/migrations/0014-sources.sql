-- A source may leave gaps between offsets (control records, compaction): a batch receives at most what it passes.
alter table sluice.ledger_batches drop constraint ledger_batches_check;
alter table sluice.ledger_batches add constraint ledger_batches_received check (received between 0 and to_offset - from_offset);
