-- Bytes live in the object store under their sha256. These tables say who may need them; src/store/objects.ts has the protocol.

create table sluice.objects (
  sha256 bytea primary key check (octet_length(sha256) = 32),
  bytes bigint not null check (bytes >= 0),
  created_at timestamptz not null default sluice.sluice_now(),
  -- From when on only references keep the object: the end of its last claim, or the last release of a reference.
  -- Null once the sweep has found it referenced, so that the sweep reads each object once, not at every round.
  idle_since timestamptz
);

create index objects_idle on sluice.objects (idle_since) where idle_since is not null;

-- Somebody is about to put or to refer to the object.
create table sluice.object_claims (
  sha256 bytea not null references sluice.objects on delete cascade,
  claimant text not null,
  expires_at timestamptz not null,
  primary key (sha256, claimant)
);

-- Something of ours names the object. No cascade: an object with a reference cannot be deleted, whatever the sweep believes.
create table sluice.object_refs (
  referrer_kind text not null,
  referrer_id text not null,
  sha256 bytea not null references sluice.objects,
  primary key (referrer_kind, referrer_id, sha256)
);

create index object_refs_object on sluice.object_refs (sha256);
