/** Datasets: versions are what attempts that succeeded have written, once; their objects are kept, and nothing is left over. */
import { always, type Invariant } from './breach.ts'

export const datasetInvariants: readonly Invariant[] = [
  /** 2. The number of a dataset is that of its latest version, which stays; what waits is not published, too. */
  always(
    2,
    'datasets.numbers',
    `select format('dataset %s is at version %s, and its latest is %s', d.name, d.last_version, coalesce(v.latest, 0)) as what
     from sluice.datasets d
     left join (select dataset, max(version) as latest from sluice.dataset_versions group by dataset) v on v.dataset = d.name
     where d.last_version is distinct from v.latest
     union all
     select format('version %s of %s waits to be published as well', v.version, v.dataset)
     from sluice.dataset_versions v
     join sluice.dataset_writes w using (run_id, node, map_index, attempt, position)`,
  ),

  /** 3. Only an attempt that succeeded has published. */
  always(
    3,
    'datasets.successes',
    `select format('version %s of %s is of attempt %s of node %s of run %s, which did not succeed',
       v.version, v.dataset, v.attempt, v.node, v.run_id) as what
     from sluice.dataset_versions v join sluice.runs r on r.id = v.run_id
     where not exists (
       select from sluice.transitions x
       where x.run_id = v.run_id and x.node = v.node and x.map_index = v.map_index and x.attempt = v.attempt
         and x.to_state = 'success')`,
  ),

  /** 12. The objects of versions and writes have their references, and no others have. */
  always(
    12,
    'datasets.objects',
    `with named as (
       select format('%s:%s:%s:%s:%s', run_id, node, map_index, attempt, position) as id, json_array_elements_text(objects) as sha256
       from (
         select run_id, node, map_index, attempt, position, objects from sluice.dataset_versions
         union all
         select run_id, node, map_index, attempt, position, objects from sluice.dataset_writes
       ) as held
     ), kept as (
       select referrer_id as id, encode(sha256, 'hex') as sha256 from sluice.object_refs where referrer_kind = 'dataset'
     )
     select format('what was written to a dataset as %s names object %s and has no reference to it', id, sha256) as what
     from (select id, sha256 from named except select id, sha256 from kept) as lacking
     union all
     select format('object %s is kept for %s, which is no version', sha256, id)
     from (select id, sha256 from kept except select id, sha256 from named) as left_over`,
  ),

  /** 12. What is noted of a run goes with it. */
  always(
    12,
    'datasets.notes',
    `select format('there is lineage of run %s, which is gone', l.run_id) as what
     from (
       select run_id from sluice.lineage union select run_id from sluice.run_environments union select run_id from sluice.lineage_sent
     ) as l
     where not exists (select from sluice.runs r where r.id = l.run_id)`,
  ),
]
