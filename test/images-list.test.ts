/** The list of pictures over HTTP, of pictures that are stored, without a stream. */
import { afterAll, beforeAll, expect, it } from 'vitest'
import { type ImagesApi, openImagesApi } from './images-api.ts'
import { storePictures } from './stored-pictures.ts'

let api: ImagesApi
let ids: string[]
beforeAll(async () => {
  api = await openImagesApi()
  ids = await storePictures(api.capabilities, { count: 8, catalog: 'caf\u00e9' })
})
afterAll(() => api?.close())

async function list(query: Readonly<Record<string, string>>) {
  const answer = await fetch(`${api.url}/api/v1/images?${new URLSearchParams(query)}`)
  const { items, nextCursor } = (await answer.json()) as {
    items: { id: string; distance?: number }[]
    nextCursor: string
  }
  return {
    status: answer.status,
    ids: items?.map(({ id }) => id),
    distances: items?.map((one) => one.distance),
    nextCursor,
  }
}

it('finds a catalog by its name however that is typed', async () => {
  for (const catalog of ['caf\u00e9', 'cafe\u0301']) expect(await list({ catalog })).toMatchObject({ status: 200, ids })
  expect(await list({ catalog: 'cafe' })).toMatchObject({ status: 200, ids: [] })
})

it('of pictures that look alike has as many as asked for, and goes on where it ended', async () => {
  const [first, ...others] = ids
  expect(await list({ similarTo: first!, distance: '3' })).toMatchObject({
    ...{ ids: others.slice(0, 3), distances: [1, 2, 3], nextCursor: null },
  })
  const page = await list({ similarTo: first!, distance: '64', limit: '4' })
  expect(page.ids).toEqual(others.slice(0, 3))
  const rest = await list({ similarTo: first!, distance: '64', limit: '4', cursor: page.nextCursor })
  expect([rest.ids, rest.nextCursor]).toEqual([others.slice(3), null])
  for (const limit of ['0', '1001']) expect((await list({ similarTo: first!, limit })).status).toBe(422)
})
