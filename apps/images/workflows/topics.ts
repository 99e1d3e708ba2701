import { topic, z } from 'sluice'
import { withoutCredentials } from '../catalog/catalog-url.ts'
import { keyOf } from '../catalog/record-id.ts'

const imageUrl = z.object({
  /** As the line says, also where it is no URL: every line that is not blank is a record and has an end. */
  url: z.string().min(1).max(10_000).overwrite(withoutCredentials),
  catalog: z.string().min(1).max(200),
  /** In its catalog, from 1. */
  line: z.int().min(1),
  /** Of the catalog, see `CatalogState`; 1 for records that come from elsewhere. */
  generation: z.int().min(1).default(1),
  /** Asks again for a URL that is known. */
  refresh: z.boolean().default(false),
})

export type ImageUrl = z.infer<typeof imageUrl>

/**
 * One record per line of a catalog. One partition: a shard takes pictures faster than one machine turns them, and what
 * must not overtake one another are repeats of a URL, which the key keeps together when there are more partitions.
 */
export const imageUrls = topic('image-urls', { schema: imageUrl, key: ({ url }) => keyOf(url), partitions: 1 })
