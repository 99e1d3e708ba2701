/** An attempt that writes late: after whatever has become of the engine that started it. It says in a file what it was told. */
import { existsSync, writeFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { action, workflow, z } from 'sluice'

const place = z.object({ dir: z.string(), name: z.string() })

const writeLate = action('write-late', {
  input: place,
  async run({ input: { dir, name }, attempt: { number }, documents }) {
    const file = (what: string) => `${dir}/${name}.${number}.${what}`
    writeFileSync(file('started'), String(process.pid))
    while (!existsSync(file('go'))) await delay(5)
    const told = await documents<{ attempt: number }>('late')
      .put(name, { attempt: number })
      .then(
        () => 'written',
        (thrown: { code?: string }) => String(thrown.code ?? thrown),
      )
    writeFileSync(file('told'), told)
    return number
  },
})

export const late = workflow('late', {
  params: place,
  define: ({ params }) => void writeLate({ dir: params.dir, name: params.name }),
})
