import { inspect } from 'node:util'
import { describe, expect, it } from 'vitest'
import { SluiceError } from '../errors.ts'
import { parseSecrets, Secret } from './secrets.ts'

const errorOf = (work: () => unknown): SluiceError => {
  try {
    work()
  } catch (thrown) {
    if (thrown instanceof SluiceError) return thrown
    throw thrown
  }
  throw new Error('nothing was thrown')
}

describe('a secret', () => {
  it('shows its name wherever it is printed', () => {
    const secret = new Secret('token', 'hunter2')
    const shown = '[secret token]'
    expect(`${secret}`).toBe(shown)
    expect(String(secret)).toBe(shown)
    expect(JSON.stringify({ secret })).toBe(`{"secret":"${shown}"}`)
    expect(inspect({ deep: { secret } }, { showHidden: true, depth: 9 })).not.toContain('hunter2')
    expect(inspect(secret)).toBe(shown)
    expect(JSON.stringify(Object.entries(secret))).not.toContain('hunter2')
    expect(secret.reveal()).toBe('hunter2')
  })
})

describe('secrets', () => {
  it('come from variables and a file of either form, variables first', () => {
    const variables = { SLUICE_SECRET_API_TOKEN: 'from env', SLUICE_SECRET_EMPTY: '', SLUICE_SECRET_KEY: 'ours' }
    for (const file of ['{"api-token":"from file","db":"a=b"}', '# comment\n\napi_token = from file\ndb=a=b\r\n']) {
      const secrets = parseSecrets(variables, file)
      expect(secrets.names).toEqual(['api-token', 'db'])
      expect(secrets.get('API_TOKEN').reveal()).toBe('from env')
      expect(secrets.get('db').reveal()).toBe('a=b')
      expect(secrets.reveal().sort()).toEqual(['a=b', 'from env'])
    }
  })

  it('say what was perhaps meant, by names only', () => {
    const secrets = parseSecrets({ SLUICE_SECRET_TOKEN: 'hunter2' })
    const error = errorOf(() => secrets.get('tokn'))
    expect(error).toMatchObject({
      code: 'SECRET_UNKNOWN',
      message: 'There is no secret "tokn": did you mean "token"? Known are: token',
    })
    expect(JSON.stringify(secrets) + inspect(secrets)).not.toContain('hunter2')
  })

  it.each([
    ['a=1\nhunter2\n', ['line 2']],
    ['a=\n=hunter2', ['line 1', 'line 2']],
    ['{"a": "hunter2"', ['file']],
    ['{"a": 5, "b": "hunter2", "1x": "hunter2"}', ['/a', '/1x']],
  ])('refuse %j without showing a value', (file, where) => {
    const error = errorOf(() => parseSecrets({}, file))
    expect(error.code).toBe('CONFIGURATION')
    expect(error.faults.map((fault) => fault.where)).toEqual(where)
    expect(error.message + inspect(error)).not.toContain('hunter2')
  })

  it('refuse a variable that is not a name', () => {
    expect(errorOf(() => parseSecrets({ 'SLUICE_SECRET_A.B': 'hunter2' })).faults).toMatchObject([
      { where: 'SLUICE_SECRET_A.B' },
    ])
  })
})
