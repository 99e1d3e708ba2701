/** `sluice sites add` and `sluice sites import`. */
import { readFile } from 'node:fs/promises'
import { type ApiClient, command, SluiceError, z } from 'sluice'

const options = z.object({
  regexp: z.string().optional().meta({ description: 'that the page must have (RE2 syntax)' }),
  interval: z.coerce.number().int().default(60).meta({ description: 'seconds from one check to the next, 5 to 300' }),
  'expected-status': z.coerce.number().int().optional().meta({ description: 'instead of any of 200 to 299' }),
  inactive: z.boolean().default(false).meta({ description: 'do not check it yet' }),
})

type Options = z.infer<typeof options>

interface Added {
  readonly id: number
  readonly url: string
  readonly interval: number
}

const bodyOf = (url: string, { regexp, interval, inactive, 'expected-status': status }: Options) => ({
  ...{ url, interval, active: !inactive },
  ...(regexp === undefined ? {} : { regexp }),
  ...(status === undefined ? {} : { expectedStatus: status }),
})

export const sitesAdd = command<Options>('sites add', {
  summary: 'add a site to check',
  args: ['url'],
  options,
  async run({ api, args, options, print }) {
    const site = await api.request<Added>('POST', '/api/v1/sites', bodyOf(args[0] as string, options))
    print(`${site.id} ${site.url} is checked every ${site.interval} s`, site)
    return 0
  },
})

const perRequest = 1_000

export const sitesImport = command<Options>('sites import', {
  summary:
    'add the sites of a text file with one URL per line; blank lines and those that begin with # are passed over',
  args: ['file'],
  options,
  async run({ api, args, options, print, progress }) {
    const file = args[0] as string
    const text = await readFile(file, 'utf8').catch((cause: Error) => {
      throw new SluiceError('USAGE', `${file} cannot be read: ${cause.message}`, { cause })
    })
    const lines = text.replace(/^\uFEFF/, '').split(/\r?\n/)
    const sites = lines.map((line) => line.trim()).filter((line) => line !== '' && !line.startsWith('#'))
    const bar = progress('sites')
    try {
      for (let from = 0; from < sites.length; from += perRequest) {
        await addAll(
          api,
          sites.slice(from, from + perRequest).map((url) => bodyOf(url, options)),
          from,
        )
        bar.update(Math.min(sites.length, from + perRequest), sites.length)
      }
    } finally {
      bar.stop()
    }
    print(`${sites.length} sites added`, { sites: sites.length })
    return 0
  },
})

/** @throws SluiceError that says how many were added before. */
async function addAll(api: ApiClient, sites: readonly object[], before: number): Promise<void> {
  try {
    await api.request('POST', '/api/v1/sites/import', { sites })
  } catch (thrown) {
    if (!(thrown instanceof SluiceError)) throw thrown
    const { code, message, faults } = thrown
    throw new SluiceError(code, `${message} (${before} sites were added, of those after none)`, { faults })
  }
}
