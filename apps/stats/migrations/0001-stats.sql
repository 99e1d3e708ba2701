-- Statistics of what players streamed: events as they were received, and their sums by window, customer and content.

create schema stats;

-- What was received, until some time after it was aggregated.
--
-- `xid` is the transaction that wrote the row, `id` its place within that transaction: (xid, id) is the order in which events
-- count. Rows are read only below the oldest transaction that still runs: nothing can appear there any more, so that the last
-- xid that was read says which rows of a lane are aggregated, without a mark on the row.
create table stats.stats_raw (
  id bigint generated always as identity,
  xid xid8 not null default pg_current_xact_id(),
  received_at timestamptz not null check (isfinite(received_at)),
  event_id text not null,
  token text not null check (token <> ''),
  customer text collate "C" not null check (length(customer) between 1 and 256),
  content text collate "C" not null check (length(content) between 1 and 256),
  timespan bigint not null check (timespan >= 0),
  p2p bigint not null check (p2p >= 0),
  cdn bigint not null check (cdn >= 0),
  session_duration bigint not null check (session_duration >= 0),
  -- Events of one token of one customer share a lane, so that each lane can be aggregated apart from the others.
  lane smallint not null generated always as
    ((hashtextextended(token, hashtextextended(customer, 0)) & 15)::smallint) stored
)
-- Rows come and go by the million: the dead are removed before they are a fifth of a table that is large for a while.
with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.05);

create index stats_raw_order on stats.stats_raw (lane, xid, id);
create index stats_raw_age on stats.stats_raw (received_at);

-- How far each lane is aggregated: a row is aggregated when its xid is not above `xid` and its id not above `id`. The second
-- says nothing new until the database is restored into another server, which counts its transactions anew. A lane has a row
-- from its first aggregation on.
create table stats.lanes (
  lane smallint primary key,
  xid xid8 not null default '0',
  id bigint not null default 0,
  -- The server whose transactions `xid` counts.
  server bigint not null,
  -- Events that were added.
  events bigint not null default 0,
  aggregated_at timestamptz
) with (fillfactor = 50);

-- Sums by window, customer and content. `time` is the end of the window. A sum stays at 9223372036854775807 once it is there.
create table stats.stats (
  time timestamptz not null,
  customer text collate "C" not null,
  content text collate "C" not null,
  cdn bigint not null check (cdn >= 0),
  p2p bigint not null check (p2p >= 0),
  sessions bigint not null check (sessions >= 0),
  primary key (customer, content, time)
)
-- Rows of the window that is open are updated again and again: room for that in their page, so that no index is touched.
with (fillfactor = 70);

create index stats_time on stats.stats (time, customer, content);
create index stats_customer on stats.stats (customer, time, content);

-- Tokens that were seen: 128 bits of the sha256 of customer and token, and the last day (UTC, by reception) of their events.
create table stats.tokens (
  hash uuid primary key,
  last_seen_on date not null
) with (fillfactor = 90);

create index tokens_age on stats.tokens (last_seen_on);

-- What was set; without a row everything is as the app's defaults say.
create table stats.settings (
  one boolean primary key default true check (one),
  token_days int not null check (token_days between 1 and 3650),
  raw_minutes int not null check (raw_minutes between 1 and 1440),
  alert_minutes int not null check (alert_minutes between 1 and 10080)
);

create function stats.token_hash(customer text, token text) returns uuid
language sql immutable parallel safe strict
return encode(substring(sha256(convert_to(length(customer) || ':' || customer || token, 'UTF8')) for 16), 'hex')::uuid;
