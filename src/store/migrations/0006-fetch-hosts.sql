-- The hosts that a process asks, as it last said; those at rest are left out.
create table sluice.fetch_hosts (
  node uuid not null references sluice.nodes on delete cascade,
  connection text not null,
  host text not null,
  circuit text not null check (circuit in ('closed', 'open', 'half-open')),
  in_flight int not null,
  queued int not null,
  requests bigint not null,
  last_error text,
  retry_at timestamptz,
  primary key (node, connection, host)
) with (fillfactor = 50);
