/** An author's function that puts a secret wherever it can: it must show up nowhere. */
import { join } from 'node:path'
import { EngineWorld, secret, until } from '../../engine-world.ts'
import type { Findings } from '../findings.ts'

export default async function secrets(findings: Findings): Promise<void> {
  const world = await EngineWorld.open('seeded-project')
  await findings.within(world, async () => {
    const engine = await world.engine()
    const ids = [await world.start('telling'), await world.start('telling')]
    for (const id of ids) await world.ended(id)
    await until(
      'the output of the runners',
      () => engine.notes.filter((note) => note.includes('the token is')).length >= 8,
    )
    await engine.stop()
    const texts = [...engine.notes, JSON.stringify(await Promise.all(ids.map((id) => world.run(id))))]
    await findings.look(world, {
      atRest: true,
      secrets: [secret],
      texts,
      home: join(world.dir, 'home'),
      acknowledged: { runs: ids },
    })
    const [lines] = await world.db.query<{ lines: string }>({
      name: 'test.log-lines',
      text: `select coalesce(string_agg(lines, ''), '') as lines from sluice.log_chunks`,
    })
    if ((lines!.lines.match(/the token is/g) ?? []).length < 4) findings.note(1, 'lines that were logged are not there')
  })
}
