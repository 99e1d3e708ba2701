import { describe, expect, it } from 'vitest'
import { SluiceError } from '../errors.ts'
import { parseConnections, revealSettings } from './connections.ts'
import { parseSecrets } from './secrets.ts'

const thrownBy = (work: () => unknown): SluiceError => {
  try {
    work()
  } catch (thrown) {
    if (thrown instanceof SluiceError) return thrown
    throw thrown
  }
  throw new Error('nothing was thrown')
}

describe('connections', () => {
  it('come from variables and from the project, variables first, whole', () => {
    const connections = parseConnections(
      { SLUICE_CONNECTION_WEB: '{"kind":"fetch","timeout":"5s"}', SLUICE_CONNECTION_EMPTY: '', PATH: '/bin' },
      { web: { kind: 'fetch', perHost: 4 }, 'ware-house': { kind: 'postgres' } },
    )
    expect(connections.names).toEqual(['ware-house', 'web'])
    expect(connections.get('web')).toEqual({ kind: 'fetch', timeout: '5s' })
    expect(connections.get('WARE_HOUSE', 'postgres')).toEqual({ kind: 'postgres' })
  })

  it('says what was perhaps meant and what there is', () => {
    const connections = parseConnections({}, { warehouse: { kind: 'postgres' }, web: { kind: 'fetch' } })
    expect(thrownBy(() => connections.get('warehose'))).toMatchObject({
      code: 'CONNECTION_UNKNOWN',
      message: 'There is no connection "warehose": did you mean "warehouse"? Known are: warehouse, web',
    })
    expect(thrownBy(() => connections.get('kafka')).message).toBe(
      'There is no connection "kafka": known are: warehouse, web',
    )
    expect(thrownBy(() => parseConnections({}).get('web')).message).toMatch(/none is configured$/)
  })

  it('says when a connection is of another kind', () => {
    const connections = parseConnections({}, { web: { kind: 'fetch' } })
    expect(thrownBy(() => connections.get('web', 'postgres'))).toMatchObject({
      code: 'CONFIGURATION',
      message: 'The connection "web" is of kind "fetch"; "postgres" is needed here',
    })
  })

  it('reports every fault at once, by variable and key', () => {
    const error = thrownBy(() =>
      parseConnections(
        { SLUICE_CONNECTION_A: 'not json', SLUICE_CONNECTION_B: '[]', 'SLUICE_CONNECTION_1.2': '{"kind":"fetch"}' },
        { web: { type: 'fetch' } },
      ),
    )
    expect(error.code).toBe('CONFIGURATION')
    expect(error.faults.map((fault) => fault.where)).toEqual([
      'connections/web/kind',
      'SLUICE_CONNECTION_A',
      'SLUICE_CONNECTION_B',
      'SLUICE_CONNECTION_1.2',
    ])
  })

  it('take secrets in at any depth only when they are revealed', () => {
    const secrets = parseSecrets({ SLUICE_SECRET_TOKEN: 's3cr3t' })
    const settings = { kind: 'fetch', headers: [{ name: 'authorization', value: { secret: 'token' } }], secret: 'no' }
    expect(revealSettings(settings, secrets)).toEqual({
      kind: 'fetch',
      headers: [{ name: 'authorization', value: 's3cr3t' }],
      secret: 'no',
    })
    const unknown = thrownBy(() => revealSettings({ kind: 'fetch', password: { secret: 'tokem' } }, secrets))
    expect(unknown).toMatchObject({ code: 'SECRET_UNKNOWN' })
  })
})
