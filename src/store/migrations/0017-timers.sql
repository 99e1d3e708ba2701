-- Timers. What the holder of a shard knows of its items, as of its last renewal; null of other sources.
alter table sluice.shards
  add column items int,
  -- Of the whole list, which the shards of a process share: left out since they are wrong; and why there is no newer list.
  add column items_refused int,
  add column items_failure text,
  -- Ticks that the committed offset has passed and that became no record: nobody was there in time, or a record of the item was
  -- open and another was waiting for its end. They move with the offset, so every tick is counted once.
  add column ticks_missed bigint not null default 0,
  add column ticks_folded bigint not null default 0;
