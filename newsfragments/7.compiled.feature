`make run` compiles the hot path where there is a C compiler and says which build runs, as does `pbxctl status`; `PBX_MYPYC=1 pip install .` installs the compiled build.
