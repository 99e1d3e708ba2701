import { expect, it } from 'vitest'
import { SluiceError } from '../errors.ts'
import { isComingBack, nameConnectionFailure } from './connection-failure.ts'

const failure = (code: string) => Object.assign(new Error('the server says so'), { code })

it('a server that stops, crashed or recovers says that it comes back; one that nobody reaches, or that refuses a login, does not', () => {
  const comesBack = (code: string) => isComingBack(nameConnectionFailure(failure(code), 'somewhere'))
  expect(['57P01', '57P02', '57P03'].map(comesBack)).toEqual([true, true, true])
  expect(['ECONNREFUSED', '28P01', '3D000', '53300'].map(comesBack)).toEqual([false, false, false, false])
  expect([isComingBack(failure('57P03')), isComingBack('57P03')]).toEqual([true, false])
})

it('a failure is named with its place and its cause', () => {
  const named = nameConnectionFailure(failure('57P03'), 'localhost:5432')
  expect(named).toBeInstanceOf(SluiceError)
  expect(named).toMatchObject({ code: 'DATABASE_UNREACHABLE', message: expect.stringContaining('localhost:5432') })
  const other = failure('23505')
  expect(nameConnectionFailure(other, 'localhost:5432')).toBe(other)
})
