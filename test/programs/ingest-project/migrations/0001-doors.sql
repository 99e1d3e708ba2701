create schema doors;

create table doors.passages (
  seq bigint generated always as identity,
  event text not null,
  door text not null,
  people bigint not null,
  received_at timestamptz not null
);
