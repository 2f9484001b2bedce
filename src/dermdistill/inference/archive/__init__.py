"""An archive of pictures as units of work, and the table that is made of them: whatever engine runs it.

A unit is some hundred image files, one WebDataset tar, or one row group of a Parquet file. Each becomes one
partition of the table, a Parquet file whose name says what it was made of: it is there in full or not at all,
so a run that was stopped goes on with the units that have none.
"""
