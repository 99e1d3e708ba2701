-- When the record at the committed offset was published, where that is known outside of this database: as of the last look.
alter table sluice.shards add column source_since timestamptz;
