-- What each task read and wrote; versions of datasets; how far a receiver of lineage events has been told.

create table sluice.datasets (
  name text primary key,
  -- What its author says of it, as of the last version.
  doc text,
  last_version bigint not null
);

-- What attempts wrote to datasets and what nobody sees yet: it becomes a version once its attempt has succeeded.
create table sluice.dataset_writes (
  run_id uuid not null,
  node int not null,
  map_index int not null,
  attempt int not null,
  -- Counts from 0 within the attempt.
  position int not null,
  dataset text not null,
  doc text,
  hash text,
  objects json not null,
  row_count bigint,
  metadata json,
  at timestamptz not null default sluice.sluice_now(),
  primary key (run_id, node, map_index, attempt, position)
);

create table sluice.dataset_versions (
  dataset text not null,
  -- Counts from 1 within the dataset, without gaps, in the order of publication.
  version bigint not null,
  -- sha256 in hex of what was written; null where its author gave none.
  hash text,
  run_id uuid not null,
  node int not null,
  map_index int not null,
  attempt int not null,
  position int not null,
  -- sha256 in hex of the objects that hold it, in their order.
  objects json not null,
  row_count bigint,
  metadata json,
  at timestamptz not null default sluice.sluice_now(),
  primary key (dataset, version),
  unique (run_id, node, map_index, attempt, position)
);
create index dataset_versions_at on sluice.dataset_versions (at);

-- What attempts read and wrote, each thing once an attempt.
create table sluice.lineage (
  run_id uuid not null,
  node int not null,
  map_index int not null,
  attempt int not null,
  kind text not null check (kind in ('read', 'write')),
  what text not null check (what in
    ('dataset', 'latest', 'object', 'documents', 'topic', 'file', 'connection', 'secret', 'step', 'program', 'clock', 'random', 'more')),
  -- `latest`: which version of a dataset was the latest. The name of the dataset, collection, topic, path, connection, secret, step or program; of objects it is empty.
  dataset text not null,
  -- Of a dataset: 0 where it had none. Of a topic or collection: how many records. Of the clock: its milliseconds.
  version bigint,
  -- sha256 in hex: of an object, of a version, of all that was written to a topic or collection in its order.
  hash text,
  -- An order within an attempt.
  nth bigint generated always as identity
);
create index lineage_of_run on sluice.lineage (run_id, node, map_index, attempt, nth);
create index lineage_of_dataset on sluice.lineage (what, dataset, kind, run_id) where what in ('dataset', 'documents', 'topic', 'file');
create index lineage_named on sluice.lineage (run_id, kind) where what in ('dataset', 'documents', 'topic', 'file');
create index lineage_of_version on sluice.lineage (dataset, version) where what = 'dataset';

-- In what each run was executed: JSON text of Node, platform, architecture, Sluice and the lock file.
create table sluice.run_environments (
  run_id uuid not null,
  environment text not null,
  primary key (run_id, environment)
);

-- How far a receiver of lineage events has been told: of runs that ended before `horizon` all, of others up to a transition.
create table sluice.lineage_receivers (
  receiver text primary key,
  horizon timestamptz not null,
  -- The node that sends, until when.
  holder uuid,
  held_until timestamptz,
  sent bigint not null default 0,
  refused bigint not null default 0,
  error text,
  failing_since timestamptz
);
create table sluice.lineage_sent (
  receiver text not null,
  run_id uuid not null,
  seq bigint not null,
  primary key (receiver, run_id)
);
