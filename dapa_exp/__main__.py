from dapa_exp.cli import main

raise SystemExit(main())
