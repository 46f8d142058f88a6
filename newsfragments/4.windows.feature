Two windows of one browser may be two extensions: each stays who it is, over a reload too.
