"""`python -m atrc_exp.report.campaign`."""

from atrc_exp.report.campaign.run import main

if __name__ == "__main__":
    main()
