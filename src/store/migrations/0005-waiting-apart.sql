-- A shard holds only some of its waiting records in memory; it finds the others by time and by key.
-- `behind`: an earlier record of the same key waits in this table, and the commit that ends it sets this back. Such a
-- record is not looked for; nor are there ever many that are found and may not go on.
alter table sluice.stream_waiting add column behind boolean not null default false;
create index stream_waiting_due on sluice.stream_waiting
  (stream, partition, (coalesce(due_at, '-infinity'::timestamptz)), "offset") where state <> 'dead' and not behind;
create index stream_waiting_key on sluice.stream_waiting (stream, partition, key, "offset")
  where state <> 'dead' and key is not null;
create index stream_waiting_behind on sluice.stream_waiting (stream, partition, key, "offset") where behind and state <> 'dead';
