"""Running notebooks and judging them: the runner, what cells promise, what they should show.

A kernel is asked through Jupyter's own client, as any client would. From the other rooms `setup`,
`kernel`'s directories and `export` may come in.
"""
