"""The vendors' own batch APIs: rows are handed in together, and answered within a day at half the price.

`interface` is what a vendor's module (`openai`, `anthropic`, `gemini`) offers: submit, find, poll, results, cancel.
`batch_model` writes rows as the model's requests and reads their responses, through the model's own provider, and
`phase` takes a job's rows through it, with everything that must survive a kill in the journal.
"""
