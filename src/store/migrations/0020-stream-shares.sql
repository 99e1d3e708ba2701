-- The streams whose shards a process may hold: it counts where these are shared, and nowhere else. None: it holds no shards, or stops.
alter table sluice.nodes add column streams text[] not null default '{}';

-- Which change of its mode this is, so that who acts upon one can say which.
alter table sluice.stream_controls add column change bigint not null default 1;

-- The change to draining under which the holder reads nothing more and has committed all that it had read, as of its last renewal.
alter table sluice.shards add column drained bigint;
