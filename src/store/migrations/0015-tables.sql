-- Tables as sinks, and the login role of apps.

-- Schemas that migrations of apps have made, each by one app.
create table sluice.app_schemas (
  schema text primary key,
  scope text not null
);

-- The role under which authors' code reaches these schemas, when this platform has made it. A backup leaves it out.
create table sluice.app_login (
  one boolean primary key default true check (one),
  role text not null,
  password text not null
);

-- Roles belong to a server, not to a database: only the database of the name that the embedded server uses has the plain name.
create function sluice.app_role() returns text language sql stable as $$
  select case
    when current_database() = 'sluice' then 'sluice_apps'
    when octet_length(current_database()) <= 51 then 'sluice_apps_' || current_database()
    else 'sluice_apps_' || md5(current_database())
  end
$$;

-- Makes the role, or takes back one that was made for this database before. What it did: `made`, `there`, `given` (somebody else
-- made the role and knows its password), `refused` (the platform may not make roles here).
create function sluice.make_app_login(fresh text) returns text language plpgsql as $$
declare
  name text := sluice.app_role();
  mark text := 'authors'' code of Sluice in the database ' || current_database();
begin
  if exists (select from pg_roles where rolname = name) then
    if exists (select from sluice.app_login where role = name) then
      return 'there';
    end if;
    if shobj_description((select oid from pg_roles where rolname = name), 'pg_authid') is distinct from mark then
      return 'given';
    end if;
    execute format('alter role %I password %L', name, fresh);
  else
    execute format(
      'create role %I login nosuperuser nocreatedb nocreaterole noreplication noinherit connection limit 40 password %L',
      name, fresh);
    execute format('comment on role %I is %L', name, mark);
    execute format('alter role %I in database %I set statement_timeout = ''60s''', name, current_database());
    execute format('alter role %I in database %I set idle_in_transaction_session_timeout = ''60s''', name, current_database());
  end if;
  insert into sluice.app_login (role, password) values (name, fresh)
  on conflict (one) do update set role = excluded.role, password = excluded.password;
  return 'made';
exception
  when insufficient_privilege then
    return 'refused';
end
$$;

-- Gives the role what it lacks in the schemas of apps, and nothing elsewhere. Writes nothing when it lacks nothing.
create function sluice.grant_apps() returns void language plpgsql as $$
declare
  name text := sluice.app_role();
  space record;
begin
  if not exists (select from pg_roles where rolname = name) then
    return;
  end if;
  if not has_database_privilege(name, current_database(), 'connect') then
    execute format('grant connect on database %I to %I', current_database(), name);
  end if;
  for space in select n.oid, n.nspname from sluice.app_schemas a join pg_namespace n on n.nspname = a.schema loop
    if not has_schema_privilege(name, space.oid, 'usage') then
      execute format('grant usage on schema %I to %I', space.nspname, name);
    end if;
    if exists (
      select from pg_class c, unnest(array['select', 'insert', 'update', 'delete']) as u (right_to)
      where c.relnamespace = space.oid and c.relkind in ('r', 'p', 'v', 'm', 'f') and not has_table_privilege(name, c.oid, right_to)
    ) then
      execute format('grant select, insert, update, delete on all tables in schema %I to %I', space.nspname, name);
    end if;
    if exists (
      select from pg_class c, unnest(array['usage', 'select']) as u (right_to)
      where c.relnamespace = space.oid and c.relkind = 'S' and not has_sequence_privilege(name, c.oid, right_to)
    ) then
      execute format('grant usage, select on all sequences in schema %I to %I', space.nspname, name);
    end if;
    -- What is made later, such as partitions.
    if not exists (
      select from pg_default_acl d, aclexplode(d.defaclacl) as e
      where d.defaclnamespace = space.oid and d.defaclobjtype = 'r' and d.defaclrole = (select oid from pg_roles where rolname = current_user)
        and e.grantee = (select oid from pg_roles where rolname = name)
    ) then
      execute format('alter default privileges in schema %I grant select, insert, update, delete on tables to %I', space.nspname, name);
      execute format('alter default privileges in schema %I grant usage, select on sequences to %I', space.nspname, name);
    end if;
  end loop;
end
$$;
