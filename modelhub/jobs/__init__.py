"""Jobs over the rows of a file: journalled, so that what was answered is never asked twice; `modelhub batch`.

`journal` has the answers, `rows` and `files` read and write the rows, `keys` tells rows apart, `estimate` and `budget`
are about money, and `batch_job` puts them together. One call for each of many rows without files is `model.map(rows)`,
in `modelhub.core.row_mapping`, which these build on.
"""
