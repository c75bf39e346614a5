import { backendConformance } from '../../src/testing/index.ts'

backendConformance({ backend: 'erofs', isWritable: true, maxLayers: Number.POSITIVE_INFINITY })
backendConformance({ backend: 'overlay', isWritable: true, maxLayers: 500 })
backendConformance({ backend: 'copy', isWritable: true, maxLayers: Number.POSITIVE_INFINITY })
backendConformance({ backend: 'bind', isWritable: false, maxLayers: 1 })
