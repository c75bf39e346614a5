/**
 * The tables of metadata.db, which decide what a store contains: files without a row are removed, and a row is
 * written last and removed first. docs/formats/store.md explains them.
 */
const VERSION_1 = `
CREATE TABLE images (
  digest TEXT PRIMARY KEY,
  media_type TEXT NOT NULL,
  config_digest TEXT NOT NULL,
  chain_id TEXT,
  platform TEXT NOT NULL,
  size_bytes INTEGER NOT NULL,
  created TEXT,
  pulled_at INTEGER NOT NULL,
  used_at INTEGER NOT NULL
) STRICT;
CREATE TABLE image_layers (
  image_digest TEXT NOT NULL REFERENCES images ON DELETE CASCADE,
  position INTEGER NOT NULL,
  diff_id TEXT NOT NULL,
  blob_digest TEXT NOT NULL,
  blob_media_type TEXT NOT NULL,
  blob_bytes INTEGER NOT NULL,
  PRIMARY KEY (image_digest, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX image_layers_by_layer ON image_layers (diff_id);
CREATE TABLE names (
  reference TEXT NOT NULL,
  platform TEXT NOT NULL,
  target_digest TEXT NOT NULL,
  image_digest TEXT NOT NULL REFERENCES images ON DELETE CASCADE,
  updated_at INTEGER NOT NULL,
  PRIMARY KEY (reference, platform)
) STRICT, WITHOUT ROWID;
CREATE INDEX names_by_image ON names (image_digest);
CREATE TABLE layers (
  diff_id TEXT PRIMARY KEY,
  tar_bytes INTEGER NOT NULL,
  summary TEXT NOT NULL,
  created_at INTEGER NOT NULL
) STRICT;
CREATE TABLE forms (
  owner TEXT NOT NULL,
  form TEXT NOT NULL,
  boot_id TEXT NOT NULL,
  is_durable INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  PRIMARY KEY (owner, form)
) STRICT, WITHOUT ROWID;
CREATE TABLE containers (
  id TEXT PRIMARY KEY,
  parent_id TEXT REFERENCES containers,
  created_at INTEGER NOT NULL
) STRICT;
CREATE TABLE rootfses (
  uuid TEXT PRIMARY KEY,
  container_id TEXT NOT NULL REFERENCES containers,
  state TEXT NOT NULL CHECK (state IN ('provisioning', 'ready', 'destroying')),
  backend TEXT NOT NULL,
  reference TEXT NOT NULL,
  image_digest TEXT NOT NULL,
  chain_id TEXT,
  rootfs_path TEXT NOT NULL,
  scratch_path TEXT NOT NULL,
  is_read_only INTEGER NOT NULL,
  boot_id TEXT NOT NULL,
  created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX rootfses_by_container ON rootfses (container_id);
CREATE INDEX rootfses_by_stack ON rootfses (chain_id);
CREATE TABLE rootfs_layers (
  uuid TEXT NOT NULL REFERENCES rootfses ON DELETE CASCADE,
  position INTEGER NOT NULL,
  diff_id TEXT NOT NULL,
  PRIMARY KEY (uuid, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX rootfs_layers_by_layer ON rootfs_layers (diff_id);
`

/** The store that an image belongs to, and the target of a root filesystem that is a volume. */
const VERSION_2 = `
ALTER TABLE images ADD COLUMN type TEXT NOT NULL DEFAULT 'docker';
ALTER TABLE rootfses ADD COLUMN volume_target TEXT;
`

/** Snapshots of containerd, and the stacks of layers that they depend on. */
const VERSION_3 = `
CREATE TABLE snapshots (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  key TEXT NOT NULL UNIQUE,
  kind TEXT NOT NULL CHECK (kind IN ('view', 'active', 'committed')),
  parent_id INTEGER REFERENCES snapshots,
  labels TEXT NOT NULL,
  created_us INTEGER NOT NULL,
  updated_us INTEGER NOT NULL,
  size_bytes INTEGER NOT NULL,
  inodes INTEGER NOT NULL,
  diff_id TEXT,
  chain_id TEXT
) STRICT;
CREATE INDEX snapshots_by_parent ON snapshots (parent_id);
CREATE INDEX snapshots_by_layer ON snapshots (diff_id) WHERE diff_id IS NOT NULL;
CREATE INDEX snapshots_by_stack ON snapshots (chain_id) WHERE chain_id IS NOT NULL;
`

/** The rule of the signature policy that allowed an image, for each of its names without tag and digest. */
const VERSION_4 = `
CREATE TABLE decisions (
  image_digest TEXT NOT NULL REFERENCES images ON DELETE CASCADE,
  repository TEXT NOT NULL,
  scope TEXT NOT NULL,
  policy TEXT NOT NULL,
  rule_digest TEXT NOT NULL,
  signer TEXT,
  decided_at INTEGER NOT NULL,
  PRIMARY KEY (image_digest, repository)
) STRICT, WITHOUT ROWID;
`

/** The generation of Loam that built an artifact: artifacts of an earlier one are rebuilt. */
const VERSION_5 = `
ALTER TABLE forms ADD COLUMN generation INTEGER NOT NULL DEFAULT 1;
`

/** Origins of documents and blobs. For older images: their names, if their layers are compressed as in registries. */
const VERSION_6 = `
CREATE TABLE origins (
  digest TEXT NOT NULL,
  reference TEXT NOT NULL,
  PRIMARY KEY (digest, reference)
) STRICT, WITHOUT ROWID;
CREATE VIEW packed_names AS
  SELECT DISTINCT n.reference, n.target_digest, n.image_digest FROM names n JOIN image_layers l USING (image_digest)
  WHERE l.blob_digest <> l.diff_id AND n.reference NOT LIKE 'docker-archive:%';
INSERT OR IGNORE INTO origins
  SELECT target_digest, reference FROM packed_names
  UNION SELECT image_digest, reference FROM packed_names
  UNION SELECT l.blob_digest, p.reference FROM packed_names p JOIN image_layers l USING (image_digest);
DROP VIEW packed_names;
`

/**
 * Whether an image exists nowhere else. Older rows do not say: images whose blobs are all compressed, as in registries, and
 * that have no name of a file, count as fetched; all others are kept.
 */
const VERSION_7 = `
ALTER TABLE images ADD COLUMN is_local INTEGER NOT NULL DEFAULT 1;
UPDATE images SET is_local = 0 WHERE type = 'docker'
  AND EXISTS (SELECT 1 FROM image_layers WHERE image_digest = digest)
  AND NOT EXISTS (SELECT 1 FROM image_layers WHERE image_digest = digest AND blob_digest = diff_id)
  AND EXISTS (SELECT 1 FROM names WHERE image_digest = digest)
  AND NOT EXISTS (SELECT 1 FROM names WHERE image_digest = digest
    AND (reference LIKE 'oci:%' OR reference LIKE 'oci-archive:%' OR reference LIKE 'docker-archive:%'));
`

/**
 * What a volume's target is in (a root filesystem, or `/`), and its mount. For older volumes the target is in the root filesystem
 * whose path it begins with, and the mount is unknown.
 */
const VERSION_8 = `
ALTER TABLE rootfses ADD COLUMN volume_root TEXT;
ALTER TABLE rootfses ADD COLUMN volume_mount TEXT;
UPDATE rootfses SET volume_root = coalesce(
  (SELECT r.rootfs_path FROM rootfses r
    WHERE substr(rootfses.volume_target, 1, length(r.rootfs_path) + 1) = r.rootfs_path || '/'
    ORDER BY length(r.rootfs_path) DESC LIMIT 1), '/')
  WHERE volume_target IS NOT NULL;
`

/**
 * What gave each name, and the other locations that its image came from; one row for each row of `names`. Of older names it is known for
 * those of files, and for those that a registry has answered to; of all others it is not.
 */
const VERSION_9 = `
CREATE TABLE name_origins (
  reference TEXT NOT NULL,
  platform TEXT NOT NULL,
  image_digest TEXT NOT NULL REFERENCES images ON DELETE CASCADE,
  given_by TEXT NOT NULL CHECK (given_by IN ('place', 'user', 'image')),
  places TEXT NOT NULL,
  PRIMARY KEY (reference, platform)
) STRICT, WITHOUT ROWID;
CREATE INDEX name_origins_by_image ON name_origins (image_digest);
INSERT INTO name_origins
  SELECT n.reference, n.platform, n.image_digest, 'place', '[]' FROM names n JOIN images i ON i.digest = n.image_digest
  WHERE n.reference LIKE 'oci:/%' OR n.reference LIKE 'docker-archive:/%' OR n.reference LIKE 'aci:%'
    OR (i.is_local = 0 AND EXISTS (SELECT 1 FROM origins o
        WHERE o.reference = n.reference AND o.digest IN (n.target_digest, n.image_digest)));
`

/** Derived artifacts and locations get the field's names. `content/store-upgrade.ts` renames the artifacts' files. */
const VERSION_10 = `
ALTER TABLE forms RENAME TO artifacts;
ALTER TABLE artifacts RENAME COLUMN form TO kind;
UPDATE artifacts SET kind = 'meta' WHERE kind = 'index';
UPDATE artifacts SET kind = 'unpacked' WHERE kind = 'fs';
UPDATE artifacts SET kind = 'fixup' WHERE kind = 'patch';
UPDATE artifacts SET kind = 'flat' WHERE kind = 'whole';
ALTER TABLE name_origins RENAME TO name_origins_9;
DROP INDEX name_origins_by_image;
CREATE TABLE name_origins (
  reference TEXT NOT NULL,
  platform TEXT NOT NULL,
  image_digest TEXT NOT NULL REFERENCES images ON DELETE CASCADE,
  given_by TEXT NOT NULL CHECK (given_by IN ('location', 'user', 'image')),
  locations TEXT NOT NULL,
  PRIMARY KEY (reference, platform)
) STRICT, WITHOUT ROWID;
CREATE INDEX name_origins_by_image ON name_origins (image_digest);
INSERT INTO name_origins (reference, platform, image_digest, given_by, locations)
  SELECT reference, platform, image_digest, CASE given_by WHEN 'place' THEN 'location' ELSE given_by END, places FROM name_origins_9;
DROP TABLE name_origins_9;
`

/**
 * The root filesystems that use the mount of their stack of layers, and a view of everything that needs such a mount, so that no query has to
 * name a backend.
 */
const VERSION_11 = `
ALTER TABLE rootfses ADD COLUMN uses_mount INTEGER NOT NULL DEFAULT 0;
UPDATE rootfses SET uses_mount = 1 WHERE backend = 'erofs';
CREATE VIEW mount_users AS
  SELECT chain_id FROM rootfses WHERE uses_mount = 1
  UNION ALL SELECT chain_id FROM snapshots WHERE diff_id IS NULL;
`

/** Whether all of a layer's tar is in the store, or a sparse one that is filled as it is read. */
const VERSION_12 = `
ALTER TABLE layers ADD COLUMN is_complete INTEGER NOT NULL DEFAULT 1;
`

/**
 * The user namespaces that root filesystems and snapshots are for, whose IDs their own files have: both mappings as they were given, `UIDS/GIDS`. Committed
 * snapshots by the layer that their client says they are.
 */
const VERSION_13 = `
ALTER TABLE rootfses ADD COLUMN id_mapping TEXT;
ALTER TABLE snapshots ADD COLUMN id_mapping TEXT;
UPDATE snapshots SET id_mapping =
  json_extract(labels, '$."containerd.io/snapshot/uidmapping"') || '/' || json_extract(labels, '$."containerd.io/snapshot/gidmapping"')
  WHERE json_valid(labels);
CREATE INDEX rootfses_by_mapping ON rootfses (id_mapping, chain_id) WHERE id_mapping IS NOT NULL;
CREATE INDEX snapshots_by_mapping ON snapshots (id_mapping, chain_id) WHERE id_mapping IS NOT NULL;
CREATE VIEW mapped_users AS
  SELECT chain_id, id_mapping FROM rootfses WHERE uses_mount = 1 AND id_mapping IS NOT NULL
  UNION ALL SELECT chain_id, id_mapping FROM snapshots WHERE kind <> 'committed' AND id_mapping IS NOT NULL;
CREATE INDEX snapshots_by_ref ON snapshots
  (CASE WHEN json_valid(labels) THEN json_extract(labels, '$."containerd.io/snapshot.ref"') END) WHERE kind = 'committed';
`

/** The layer that a client has applied to an active snapshot, which becomes that layer when it is committed. */
const VERSION_14 = `
ALTER TABLE snapshots ADD COLUMN applied_diff_id TEXT;
CREATE INDEX snapshots_by_applied_layer ON snapshots (applied_diff_id) WHERE applied_diff_id IS NOT NULL;
`

/** The directory of a volume's root filesystem that is mounted at its target. */
const VERSION_15 = `
ALTER TABLE rootfses ADD COLUMN volume_sub_path TEXT;
`

/**
 * The additional image stores that other programs read (containers/storage), the images in them by name, and the stacks of layers that must stay
 * mounted for them: one for each layer of an image.
 */
const VERSION_16 = `
CREATE TABLE additional_images (
  directory TEXT NOT NULL,
  name TEXT NOT NULL,
  image_digest TEXT NOT NULL REFERENCES images,
  PRIMARY KEY (directory, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX additional_images_by_image ON additional_images (image_digest);
CREATE TABLE additional_stacks (
  image_digest TEXT NOT NULL,
  position INTEGER NOT NULL,
  chain_id TEXT NOT NULL,
  PRIMARY KEY (image_digest, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX additional_stacks_by_stack ON additional_stacks (chain_id);
DROP VIEW mount_users;
CREATE VIEW mount_users AS
  SELECT chain_id FROM rootfses WHERE uses_mount = 1
  UNION ALL SELECT chain_id FROM snapshots WHERE diff_id IS NULL
  UNION ALL SELECT chain_id FROM additional_stacks;
`

/** The bytes that may be written to a root filesystem or an active snapshot; NULL for no limit. */
const VERSION_17 = `
ALTER TABLE rootfses ADD COLUMN size_bytes INTEGER;
ALTER TABLE snapshots ADD COLUMN max_bytes INTEGER;
`

/**
 * The largest ID of a snapshot when a committed one became a layer: those up to it may be mounted over its directory. For those that were adopted by an
 * earlier version, it is the largest one now.
 */
const VERSION_18 = `
ALTER TABLE snapshots ADD COLUMN adopted_after INTEGER;
UPDATE snapshots SET adopted_after = (SELECT MAX(id) FROM snapshots) WHERE diff_id IS NOT NULL;
`

/**
 * Where the data of partial layers comes from, also after they are complete: then it can be fetched again. And the lazy indexes whose layers turned out to
 * have another diffID.
 */
const VERSION_19 = `
CREATE TABLE partial_layers (
  diff_id TEXT PRIMARY KEY REFERENCES layers ON DELETE CASCADE,
  blob_digest TEXT NOT NULL,
  blob_media_type TEXT NOT NULL,
  blob_bytes INTEGER NOT NULL,
  reference TEXT NOT NULL,
  index_digest TEXT NOT NULL,
  trusted_by TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE denied_indexes (
  index_digest TEXT PRIMARY KEY,
  reason TEXT NOT NULL,
  denied_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
`

/** Why images were pulled eagerly that could have been pulled lazily, and the spans of layers that containers read first. */
const VERSION_20 = `
CREATE TABLE eager_images (
  image_digest TEXT PRIMARY KEY REFERENCES images ON DELETE CASCADE,
  why TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE profiles (
  diff_id TEXT PRIMARY KEY REFERENCES layers ON DELETE CASCADE,
  index_digest TEXT NOT NULL,
  spans TEXT NOT NULL
) STRICT, WITHOUT ROWID;
`

/** The statements that upgrade the tables of each version to the next; an empty database is version 0. */
export const MIGRATIONS: readonly string[] = [
  VERSION_1,
  VERSION_2,
  VERSION_3,
  VERSION_4,
  VERSION_5,
  VERSION_6,
  VERSION_7,
  VERSION_8,
  VERSION_9,
  VERSION_10,
  VERSION_11,
  VERSION_12,
  VERSION_13,
  VERSION_14,
  VERSION_15,
  VERSION_16,
  VERSION_17,
  VERSION_18,
  VERSION_19,
  VERSION_20,
]
