alter table sluice.versions
  -- When it last took new work, or began to: what is kept of it counts from here.
  add column used_at timestamptz not null default sluice.sluice_now();
alter table sluice.deployment
  -- Files with faults that are deployed as they were in an earlier version: [{"file", "version", "faults", "since"}].
  add column kept json not null default '[]';
