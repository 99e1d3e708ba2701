-- Rows that came for a day before its partition was made are in the default partition. Then that day stays there: the
-- other days are made all the same, and the rows leave with their day.
create or replace function sluice.ensure_day_partitions(parent regclass, first_day date, days int) returns int
language plpgsql as $$
declare
  made int := 0;
  day date;
  child text;
begin
  for day in select first_day + n from generate_series(0, days - 1) as n loop
    child := format('%s_%s', (select relname from pg_class where oid = parent), to_char(day, 'YYYYMMDD'));
    if to_regclass(format('sluice.%I', child)) is null then
      begin
        execute format(
          'create table if not exists sluice.%I partition of %s for values from (%L) to (%L)',
          child, parent, day::timestamp at time zone 'UTC', (day + 1)::timestamp at time zone 'UTC');
        made := made + 1;
      exception when check_violation then
        raise notice '% stays in the default partition of %', day, parent;
      end;
    end if;
  end loop;
  return made;
end $$;

create or replace function sluice.drop_day_partitions(parent regclass, keep_from date) returns setof text
language plpgsql as $$
declare
  child text;
begin
  for child in
    select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = parent and c.relname ~ '_\d{8}$' and to_date(right(c.relname, 8), 'YYYYMMDD') < keep_from
    order by c.relname
  loop
    execute format('drop table sluice.%I', child);
    return next child;
  end loop;
  execute format('delete from %s_default where %I < %L', parent,
    (select a.attname from pg_partitioned_table p join pg_attribute a on a.attrelid = p.partrelid and a.attnum = p.partattrs[0]
     where p.partrelid = parent),
    keep_from::timestamp at time zone 'UTC');
end $$;
